"""Cohorts: training for a set of profiles, from its donors to the records of its targets."""
