"""What people do about a result, a file for each concept: weighing, alert, triage, case and its work, delivery."""

from alerts.models.alerts import Acknowledgement, Alert, AlertReason, Triage, Weighing
from alerts.models.cases import Case, CaseEntry, Closure, Recusal
from alerts.models.check_ins import CheckIn
from alerts.models.deliveries import Delivery, Escalation, Fault, Webhook
from alerts.models.referrals import Destination, Referral
from alerts.models.transfers import Transfer
from alerts.models.work import Conference, FollowUp, Interview, Plan

__all__ = [
    "Acknowledgement",
    "Alert",
    "AlertReason",
    "Case",
    "CaseEntry",
    "CheckIn",
    "Closure",
    "Conference",
    "Delivery",
    "Destination",
    "Escalation",
    "Fault",
    "FollowUp",
    "Interview",
    "Plan",
    "Recusal",
    "Referral",
    "Transfer",
    "Triage",
    "Webhook",
    "Weighing",
]
