"""``python -m mlc_llm SUBCOMMAND …``"""

import logging
import sys


def main() -> None:
    logging.basicConfig(
        level=logging.INFO,
        style="{",
        datefmt="%Y-%m-%d %H:%M:%S",
        format="[{asctime}] {levelname} {filename}:{lineno}: {message}",
    )
    if sys.argv[1:2] != ["serve"]:
        sys.exit("this stand-in only knows serve")
    from mlc_llm.cli import serve

    serve.main(sys.argv[2:])


if __name__ == "__main__":
    main()
