"""Requests to the model hub: whether it can be reached, and its errors as those of vla."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from vla.errors import EnvironmentUnfitError, MissingError, ResourceError, UsageError, VlaError
from vla.hints import Hint
from vla.storage.atomic import format_bytes

FETCH_AGAIN = Hint("fetch_again")
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_CONNECT_SECONDS = 3
_EDQUOT = getattr(errno, "EDQUOT", errno.ENOSPC)  # Windows has no EDQUOT
_LIBRARIES = {"httpx", "httpx2", "httpcore", "requests", "urllib3", "huggingface_hub"}
"""Modules whose exceptions mean a failed request; which of them depends on huggingface_hub."""


def require_reachable(missing: str, hint: Hint) -> None:
    """Raise EnvironmentUnfitError within seconds, without retries, if the hub cannot be reached.

    Args:
        missing: names what is needed, e.g. `the weights of PE-Core-B-16 meta`.
        hint: the way out.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    elif any(os.environ.get(name) for name in _PROXIES):
        return  # only the proxy can tell whether the hub is reachable
    else:
        host = urlsplit(constants.ENDPOINT)
        port = host.port or (80 if host.scheme == "http" else 443)
        try:
            socket.create_connection((host.hostname or "", port), timeout=_CONNECT_SECONDS).close()
            return
        except OSError as error:
            reason = f"{host.hostname} cannot be reached: {error}"
    raise EnvironmentUnfitError(f"{missing} are not on this machine, and {reason}", hint=hint)


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Suppress the bars and log lines of huggingface_hub; failures raise errors."""
    from huggingface_hub import utils

    logger = logging.getLogger("huggingface_hub")
    level, has_bars = logger.level, not utils.are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    if has_bars:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if has_bars:
            utils.enable_progress_bars()


@contextmanager
def hub_errors(
    repository: str, position: Callable[[], tuple[str, int, int]] | None = None
) -> Iterator[None]:
    """Turn errors of huggingface_hub into those of vla.

    Args:
        repository: `ORG/REPO`.
        position: returns the name of the file, and how many of its bytes are here.
    """
    from huggingface_hub import errors

    try:
        yield
    except VlaError:
        raise
    except errors.GatedRepoError as error:
        raise EnvironmentUnfitError(
            f"{repository} is gated: accept its terms on its page, and set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise MissingError(
            f"the hub has no model {repository}, or it is private: check the name, or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(
            f"{repository} has no such revision: use a commit, branch or tag"
        ) from error
    except errors.HFValidationError as error:
        raise UsageError(str(error)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EFBIG, _EDQUOT):
            raise ResourceError(
                f"the disk is full: {error.strerror}; what was fetched is kept", hint=FETCH_AGAIN
            ) from error
        if not _is_of_network(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if position is None:
            raise EnvironmentUnfitError(
                f"the hub cannot be asked for {repository}: {reason}"
            ) from error
        name, done, size = position()
        raise EnvironmentUnfitError(
            f"the download of {name} of {repository} broke off ({reason}); "
            f"{format_bytes(done)} of {format_bytes(size)} are kept",
            hint=FETCH_AGAIN,
        ) from error


def _is_of_network(error: Exception) -> bool:
    """Return whether a library of HTTP raised `error`; which one depends on huggingface_hub."""
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(modules & _LIBRARIES) or isinstance(error, OSError)
