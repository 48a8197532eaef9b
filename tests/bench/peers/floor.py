"""The floor of `inv bench.fanout`: asyncssh, and nothing around it. FOLDER PORT USER COMMAND"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncssh

AT_A_TIME = 64


async def main(folder: Path, port: int, user: str, command: str) -> int:
    gate = asyncio.Semaphore(AT_A_TIME)

    async def ask(address: str) -> bool:
        async with (
            gate,
            asyncssh.connect(
                address,
                port,
                username=user,
                client_keys=[str(folder / "client")],
                known_hosts=str(folder / "known_hosts"),
                config=None,
            ) as connection,
        ):
            return (await connection.run(command)).stdout == "hi\n"

    addresses = (folder / "addresses").read_text().split()
    return sum(await asyncio.gather(*map(ask, addresses)))


print(asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])))
