"""The management API: one file per resource."""

from api.management.actions import actions
from api.management.callbacks import callbacks
from api.management.executions import executions
from api.management.replays import replays
from api.management.stored_items import stored_items
from api.management.triggers import triggers
from api.management.users import users

RESOURCES = (callbacks, actions, triggers, executions, replays, stored_items, users)
