"""The model beside the rules: it may raise a student to yellow or orange, never lower one and never reach red.

No door and no upload asks a model or opens its bytes: doors read what was kept of it. scikit-learn is loaded where a
model is fitted or stored, and nowhere else.
"""
