"""`python -m deploy.cli`: the `pointsman` command where the console script is not installed."""

from deploy.cli.main import main

if __name__ == "__main__":
    main()
