"""Where the key comes from that seals restore points: a private file, the system's keyring, or the host.

There is no copy without a key: a provider that cannot give one raises KeyUnavailable, and nothing is written.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

# pyrage is the Rust implementation of the age format (age-encryption.org/v1); it ships no types.
from pyrage import IdentityError, x25519  # type: ignore[import-untyped]  # no stubs exist

from syncengine.clock import fresh_id, iso, system_random
from syncengine.errors import KeyUnavailable

if TYPE_CHECKING:
    from random import Random

    from syncengine.clock import Clock

KEY_FILE_ENDS = ".key"
"""The key file of a store whose host names no other lies beside it, under the store's name with this at its end."""
OLD_KEY = ".old-"
"""Between the name of a key file and the time at which a new key took its place."""
KEY_FILE_BYTES_MAX = 4_096
KEY_BEGINS = "AGE-SECRET-KEY-1"
TRUSTED_KEYRINGS = frozenset(
    {
        "keyring.backends.SecretService",
        "keyring.backends.Windows",
        "keyring.backends.kwallet",
        "keyring.backends.libsecret",
        "keyring.backends.macOS",
    }
)
"""Modules whose backends hold secrets encrypted. All others are refused: null and fail keep nothing, and those of
keyrings.alt keep plain text."""
_USERNAME = "restore points"


class SealingKey:
    """An X25519 key pair of the age format. It never prints its secret half and cannot be pickled."""

    __slots__ = ("_identity",)

    def __init__(self, identity: Any) -> None:
        self._identity = identity

    @classmethod
    def fresh(cls) -> "SealingKey":
        """A new key from the operating system's random numbers."""
        return cls(x25519.Identity.generate())

    @classmethod
    def parse(cls, text: str) -> "SealingKey":
        """The key in a text as `age-keygen` writes it; comments are passed over. Raises KeyUnavailable."""
        lines = [line.strip() for line in text.splitlines()]
        keys = [line for line in lines if line and not line.startswith("#")]
        if len(keys) != 1 or not keys[0].startswith(KEY_BEGINS):
            raise _unavailable("it is not one line that begins with AGE-SECRET-KEY-1")
        try:
            return cls(x25519.Identity.from_str(keys[0]))
        except IdentityError:
            # Without its cause, which may quote the key.
            raise _unavailable("it is not a whole AGE-SECRET-KEY-1") from None

    @property
    def recipient(self) -> str:
        """The public half, "age1...": enough to seal, and no secret."""
        return str(self._identity.to_public())

    @property
    def identity(self) -> Any:
        """What pyrage works with."""
        return self._identity

    def secret_text(self) -> str:
        """The secret half, for the one place that stores it."""
        return str(self._identity)

    def __repr__(self) -> str:
        return "SealingKey(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SealingKey) and other.recipient == self.recipient

    def __hash__(self) -> int:
        return hash(self.recipient)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SealingKey is not pickled")


class KeyProvider(Protocol):
    """Gives the key, the same one every time, made when it is asked for the first time."""

    def identity(self) -> SealingKey:
        """Raises KeyUnavailable; nothing was written then."""
        ...


class KeyFile:
    """A key in a file of its own (0600), in the form of `age-keygen`.

    Made on first use; any number of processes that start at once end with one key. Refused are files that others
    may read, files of another user, and symbolic links.
    """

    def __init__(self, path: str | os.PathLike[str], *, chance: "Random | None" = None) -> None:
        self._path = os.fspath(path)
        self._chance = chance

    def identity(self) -> SealingKey:
        """Read the key, or make it. Raises KeyUnavailable."""
        try:
            if not os.path.lexists(self._path):
                self._make()
            return SealingKey.parse(self._read())
        except OSError as error:
            raise self._refused(error.strerror or type(error).__name__) from error

    def present(self) -> SealingKey:
        """The key that is there; none is made. Raises KeyUnavailable."""
        if not os.path.lexists(self._path):
            raise self._refused("the key file is not there; bring it back, or name another one")
        return self.identity()

    def renew(self, clock: "Clock") -> str:
        """Put a new key in the place of the old one; the path of the old one, kept beside as NAME.old-TIME (0600).

        What is sealed for the old key needs it until it was sealed anew (`reseal`). Whenever this ends, the key's
        name leads to a whole key. Raises KeyUnavailable, also where there is no key yet.
        """
        try:
            SealingKey.parse(self._read())
            kept = f"{self._path}{OLD_KEY}{iso(clock.now_ms()).replace(':', '').replace('.', '')}"
            os.link(self._path, kept)
            self._make(instead=True)
        except OSError as error:
            raise self._refused(error.strerror or type(error).__name__) from error
        return kept

    def old_keys(self) -> "tuple[KeyFile, ...]":
        """Those that `renew` left beside this one, oldest first."""
        folder, name = os.path.split(os.path.abspath(self._path))
        names = sorted(found for found in os.listdir(folder) if found.startswith(name + OLD_KEY))
        return tuple(KeyFile(os.path.join(folder, found)) for found in names)

    def remove(self) -> None:
        """Delete the file: what is sealed for this key alone cannot be opened any more. Raises KeyUnavailable."""
        try:
            os.unlink(self._path)
            sync_folder(os.path.dirname(self._path) or ".")
        except OSError as error:
            raise self._refused(error.strerror or type(error).__name__) from error

    @property
    def path(self) -> str:
        """Where the key lies."""
        return self._path

    def _read(self) -> str:
        descriptor = os.open(self._path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, "rb") as file:
            self._check(os.fstat(descriptor))
            return file.read(KEY_FILE_BYTES_MAX).decode("ascii", "replace")

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise self._refused("it is not a plain file")
        if os.name != "posix":
            return
        if found.st_uid != os.geteuid():
            raise self._refused("it belongs to another user")
        if found.st_mode & 0o077:
            raise self._refused(f"others may use it: its mode is {stat.S_IMODE(found.st_mode):o}, not 600")

    def _make(self, *, instead: bool = False) -> None:
        """Whole and on the disk before it has its name; who comes second takes the first one's, unless `instead`."""
        new = f"{self._path}.{fresh_id(self._chance or system_random())}.new"
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(_key_text(SealingKey.fresh()))
                file.flush()
                os.fsync(descriptor)
            if instead:
                os.replace(new, self._path)
            else:
                with suppress(FileExistsError):
                    os.link(new, self._path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(new)
        sync_folder(os.path.dirname(self._path) or ".")

    def _refused(self, why: str) -> KeyUnavailable:
        return KeyUnavailable(
            f"The key file {self._path} cannot be used.",
            why=why,
            fix="Make it a plain file of this user with mode 600, or give the engine other keys=. "
            "Nothing was written.",
        )

    def __repr__(self) -> str:
        return f"KeyFile({self._path!r})"


def _key_text(key: SealingKey) -> bytes:
    return f"# seals this app's restore points; opens with: age -d -i\n{key.secret_text()}\n".encode()


def sync_folder(path: str) -> None:
    """Let a new name in a folder reach the disk; not every system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class KeyringKey:
    """A key in the system's keyring, under "syncengine: <app>". Needs the extra `syncengine[keyring]`.

    Only backends of `TRUSTED_KEYRINGS`, and of the modules in `also_trusted`, are used: a keyring that keeps plain
    text or nothing is refused before anything is written to it. Keyrings know no "only if there is none": let one
    process make the first restore point.
    """

    def __init__(self, app: str, *, also_trusted: tuple[str, ...] = ()) -> None:
        self._service = f"syncengine: {app}"
        self._trusted = TRUSTED_KEYRINGS | set(also_trusted)

    def identity(self) -> SealingKey:
        """Ask the keyring, or make the key and put it there. Raises KeyUnavailable."""
        backend = self._backend()
        try:
            text = backend.get_password(self._service, _USERNAME)
            if text is None:
                backend.set_password(self._service, _USERNAME, SealingKey.fresh().secret_text())
                text = backend.get_password(self._service, _USERNAME)
        except Exception as error:
            raise self._refused(type(error).__name__) from error
        if text is None:
            raise self._refused("it forgot the key at once")
        return SealingKey.parse(text)

    def _backend(self) -> Any:
        try:
            import keyring
            from keyring.backends.chainer import ChainerBackend
        except ImportError as error:
            raise self._refused("the package keyring is not installed: pip install 'syncengine[keyring]'") from error
        chosen = keyring.get_keyring()
        inside = chosen.backends if isinstance(chosen, ChainerBackend) else [chosen]
        trusted = [backend for backend in inside if type(backend).__module__ in self._trusted]
        if not trusted:
            names = ", ".join(f"{type(backend).__module__}.{type(backend).__name__}" for backend in inside)
            raise self._refused(f"its backend is not known to encrypt: {names or 'none'}")
        return trusted[0]

    def _refused(self, why: str) -> KeyUnavailable:
        return KeyUnavailable(
            "The system's keyring cannot keep the key that seals restore points.",
            why=why,
            fix="Unlock or install a keyring, or give the engine keys=KeyFile(...) or keys=HostKey(...). "
            "Nothing was written.",
        )

    def __repr__(self) -> str:
        return f"KeyringKey({self._service!r})"


class HostKey:
    """A key that the host keeps: `ask()` gives its text, "AGE-SECRET-KEY-1...", the same every time."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask

    def identity(self) -> SealingKey:
        """Ask the host. Raises KeyUnavailable."""
        try:
            text = self._ask()
        except Exception as error:
            raise _unavailable(f"the host's callback raised {type(error).__name__}") from error
        if not isinstance(text, str):
            raise _unavailable(f"the host's callback gave a {type(text).__name__}")
        return SealingKey.parse(text)

    def __repr__(self) -> str:
        return "HostKey(…)"


def _unavailable(why: str) -> KeyUnavailable:
    return KeyUnavailable(
        "The key that seals restore points cannot be used.",
        why=why,
        fix="Give the text of one key as `age-keygen` prints it. Nothing was written.",
    )


def key_that_is_there(keys: KeyProvider) -> SealingKey:
    """For opening what was sealed before: a new key would open nothing. Raises KeyUnavailable."""
    return keys.present() if isinstance(keys, KeyFile) else keys.identity()
