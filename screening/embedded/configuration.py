"""The server's settings, and who may come in."""

import pwd
from collections.abc import Mapping

from screening.embedded import home, process
from screening.embedded.home import Places

_SETTINGS = {
    # private: no TCP, a socket only its own user can open, scram only
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    # an acknowledged answer survives a crash
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # a lost client gives its locks back in seconds
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # PostgreSQL prints key values and statements into its log: only starts, stops and fatal ends are let through
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_autovacuum_min_duration": "-1",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
}

_ACCESS = "".join(
    f"{kind} {database} all {address} scram-sha-256\n"
    for kind, address in (("local", ""), ("host", "all"))
    for database in ("all", "replication")
)


def configure(places: Places, account: pwd.struct_passwd | None, given: Mapping[str, str]) -> None:
    settings = _SETTINGS | dict(given)
    settings |= {"unix_socket_directories": str(places.socket), "cluster_name": process.cluster_name(places.data)}
    lines = "".join(f"{name} = '{_quoted(value)}'\n" for name, value in settings.items())
    for name, text in (("postgresql.conf", lines), ("pg_hba.conf", _ACCESS)):
        aside = places.data / f"{name}.{home.token()}"
        home.write_private(aside, text, account=account)
        aside.replace(places.data / name)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
