"""Many settings of one experiment on the same samples: which is fast and accurate enough?"""
