"""Compiled loops on the CPU. Import them where they are used: importing the compiler takes a second."""
