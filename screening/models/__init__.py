"""The whole schema of this floor, a file for each concept: districts .. results, the vault, uploads, coverage, audit.

Every tenant table begins its primary key, unique keys and foreign keys with `district_id`, so that a reference
across districts cannot be written. A table with `school_id` is named work: its row security tests the district
AND the schools of the scope. `GLOBAL_TABLES` is the closed list of tables that stand outside any district.
"""

from screening.models.accounts import Account, Code, Feed, Guess, RecoveryCode, SignIn, Token
from screening.models.audit import AuditEntry, AuditHead, AuditSeal, IdempotencyKey
from screening.models.base import (
    DISTRICT_WIDE_TABLES,
    GLOBAL_TABLES,
    Base,
    Row,
    Tenant,
    new_id,
    of_district,
    tenant,
)
from screening.models.districts import District, DistrictExit, Heartbeat, LookupKey
from screening.models.files import FileChunk, Roster, RosterRow, StoredFile, Upload, UploadProblem
from screening.models.results import Administration, CoverageRelease, CoverageSummary, Result
from screening.models.rights import Consent, Erasure, Export, RightsRequest
from screening.models.risk_models import (
    RiskModel,
    RiskModelApproval,
    RiskModelCheck,
    RiskScore,
    RoutineChat,
    RoutineDraw,
)
from screening.models.rounds import Assignment, Draft, Opening, Round, RoundInstrument, SafetyAnswer
from screening.models.rules import Definition, Licence, RuleSet, Wording
from screening.models.schools import CalendarDay, CalendarLoad, School, Term
from screening.models.staff import AccessRequest, Duty, Staff, StaffRole
from screening.models.students import Enrollment, Identity, SpecialGroup, Student, StudentMerge

__all__ = [
    "DISTRICT_WIDE_TABLES",
    "GLOBAL_TABLES",
    "AccessRequest",
    "Account",
    "Administration",
    "Assignment",
    "AuditEntry",
    "AuditHead",
    "AuditSeal",
    "Base",
    "CalendarDay",
    "CalendarLoad",
    "Code",
    "Consent",
    "CoverageRelease",
    "CoverageSummary",
    "Definition",
    "District",
    "DistrictExit",
    "Draft",
    "Duty",
    "Enrollment",
    "Erasure",
    "Export",
    "Feed",
    "FileChunk",
    "Guess",
    "Heartbeat",
    "IdempotencyKey",
    "Identity",
    "Licence",
    "LookupKey",
    "Opening",
    "RecoveryCode",
    "Result",
    "RightsRequest",
    "RiskModel",
    "RiskModelApproval",
    "RiskModelCheck",
    "RiskScore",
    "Roster",
    "RosterRow",
    "Round",
    "RoundInstrument",
    "RoutineChat",
    "RoutineDraw",
    "Row",
    "RuleSet",
    "SafetyAnswer",
    "School",
    "SignIn",
    "SpecialGroup",
    "Staff",
    "StaffRole",
    "StoredFile",
    "Student",
    "StudentMerge",
    "Tenant",
    "Term",
    "Token",
    "Upload",
    "UploadProblem",
    "Wording",
    "new_id",
    "of_district",
    "tenant",
]
