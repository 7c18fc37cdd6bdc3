"""A project of one's own: which visitor stays how long on which page?"""
