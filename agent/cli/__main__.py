"""`python -m agent.cli`: the command `outlive` where no script of that name is at hand."""

from agent.cli import main

if __name__ == "__main__":
    main()
