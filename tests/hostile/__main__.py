"""`python -m tests.hostile --count 10000 --seed 1`."""

from tests.hostile.run import main

if __name__ == "__main__":
    main()
