"""Health check of a decoder on a built-in clip: only a working decoder may mark videos as failed."""

from __future__ import annotations

import base64
import tempfile
import zlib
from pathlib import Path

from vla.causes import DOUBTFUL, unreadable_reason
from vla.decoders.base import Decoder
from vla.errors import DecodeError, EnvironmentUnfitError, ResourceError
from vla.hints import Hint
from vla.sampling import at_fps

# Four frames of 32x32 pixels, H.264 with a B-frame, in MP4: the code path of most videos.
_CLIP = (
    "c-muNU{FXasVvAW&d+6FU}6B#Kx~v)mTZ_?U}DI?!0eoxpI^qnz>t$$mXX4M0+?R_u>u1l0|+4iBdRKNz5@eZzyw5-N{SM*f$W%)Y_Ofon5F^kWx"
    "#I_R(lnon1MkhHKn8&NXw+=6qg`$fXwB9>Sf}}P036I>Bvn%_qztzpwJ^=j&4RuP7zF|EHfn)S!EcIpYM^Fmy(kTQp314H#08{$Pg*Z1sjU&OqCR"
    "foJ>klY8sL^cuI?M6d-KI(&Cb&93XpdaY=CslA5)kNW&2nAh#+ocmQb+m<k>rpn8Rz%%ln<GZSnPA@Tn|kTeFWa%N0n;QIfNK|CEuuX!`=fD0%}S"
    "U`k^jmMM+j0~(9@0;gr`1|7rNTWbOVsQb~5g;s*R8j;DVWut!W{@Z@0f#=!u`J+F2dV{n3RxV44U!RRSs-E@P<a7l&%(rIfMz74nE}<upaPVuLh>"
    "X?Tpkp_K+FxrKsO}kBc%wC-L|DEC7_gGnwtuyK|m2X)`2OdD6ya*2RQ^eG9gKeBdsVElq5WJQxZXZ>C}!E#(IIJ*M<37eUsHv)NgO&efj6cL%p=-"
    "y&&a|vow<Q|CfOhEIZ>oSK<FB8bM6QSw2bioeco;(1C^"
)
_RESOURCE_REASONS = ("memory", "killed", "resources")


def require_health(decoder: Decoder, occasion: DecodeError) -> None:
    """Require that `decoder`, which failed with `occasion`, decodes a built-in clip.

    Raises:
        ResourceError: it fails there, too, for lack of memory, files or processes.
        EnvironmentUnfitError: it fails there, too, for another reason.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="vla-") as folder:
            path = Path(folder) / "clip.mp4"
            path.write_bytes(zlib.decompress(base64.b85decode(_CLIP)))
            fault = _fault(decoder, path)
    except ResourceError:
        raise
    except OSError as error:
        fault = unreadable_reason(Path("clip.mp4"), error)
    if fault is None:
        return
    message = (
        f"the decoder does not work on this machine now: it fails on a test clip, too "
        f"({_reason_text(fault)}), after {occasion}. "
        "No video is marked as failed for that"
    )
    if fault.reason in _RESOURCE_REASONS:
        raise ResourceError(
            f"{message}. Free memory, files or processes (ulimit -a), then run the same command "
            f"again"
        )
    raise EnvironmentUnfitError(message, hint=Hint("doctor"))


def _fault(decoder: Decoder, path: Path) -> DecodeError | None:
    """Return the failure of `decoder` on an intact clip; None if it decodes or deliberately refuses it."""
    try:
        with decoder.open(path) as reader:
            for _ in reader.sample(at_fps(5)):
                return None
        return DecodeError(f"{path.name}: the decoder returned no frame", "crashed")
    except DecodeError as error:
        # A decoder for another kind of file is right to refuse this one.
        return error if error.reason in DOUBTFUL else None
    except (ResourceError, EnvironmentUnfitError):
        raise
    except MemoryError:
        return DecodeError(f"{path.name}: not enough memory", "resources")
    except OSError as error:
        return unreadable_reason(path, error)
    except Exception as error:
        return DecodeError(f"{path.name}: {type(error).__name__}: {error}", "crashed")


def _reason_text(fault: DecodeError) -> str:
    return str(fault).removeprefix("clip.mp4: ")
