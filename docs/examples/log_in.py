"""Log in with a password from a file: python log_in.py URI FILE"""

import sys
from pathlib import Path

from twisted.internet.task import react

from virnet import connect
from virnet.security.credentials import CredentialRequest


async def main(reactor: object, uri: str, file: str) -> None:
    def ask(request: CredentialRequest) -> str | None:
        if request.kind == "password":
            return Path(file).read_text().rstrip("\n")
        return None

    async with await connect(reactor, uri, credentials=ask) as connection:
        domains, _ = await connection.remote.connectListAllDomains(1, 0)
        print(connection.uri.user, "sees", *(domain.name for domain in domains))


if __name__ == "__main__":
    react(lambda reactor, *words: main(reactor, *words), sys.argv[1:])
