"""The names that callers import, and how a server is made."""

from __future__ import annotations

import inspect

import pytest

import quick_server

NAMES = """
create_server QuickServer QuickServerRequestHandler ReqArgs ReqNext Response MultipartResponse
PreventDefaultResponse msg debug set_log_file json_dumps get_time setup_restart is_original
has_been_restarted set_restart_exit_code set_error_exit_code get_exec_arr setup_shutdown
add_shutdown_hook set_global_error_handler TokenHandler DefaultTokenHandler TokenObj BaseWorker
DefaultWorker WorkerArgs WorkerResponse WorkerTask WorkerDeath WorkerError worker_request
is_worker_alive get_worker_check AnyStrResponse CacheIdObj CmdF CmdCompleteF CmdState ErrHandler
MiddlewareF PostFileLens PrintF ReqF ThreadFactory WorkerF WorkerThreadFactory LONG_MSG MSG_STDERR
__version__
""".split()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_there(name: str) -> None:
    assert hasattr(quick_server, name)
    assert name in quick_server.__all__


def test_parameters_of_create_server_may_be_given_in_order() -> None:
    parameters = inspect.signature(quick_server.create_server).parameters
    assert [(name, parameter.default) for name, parameter in parameters.items()][1:] == [
        ("parallel", True),
        ("thread_factory", None),
        ("token_handler", None),
        ("worker_constructor", None),
        ("soft_worker_death", False),
    ]
    assert all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters.values())
