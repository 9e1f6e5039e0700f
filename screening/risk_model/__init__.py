"""The model beside the rules: it may raise a student to yellow or orange, never lower one and never reach red.

Nothing here is imported by a door or by the path of an upload. scikit-learn is loaded where a model is fitted or
used, and nowhere else.
"""
