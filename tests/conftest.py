"""Lets the tests import what stands beside this file."""
