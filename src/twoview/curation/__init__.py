"""Frames to pairs: propose, describe, measure, judge, write."""
