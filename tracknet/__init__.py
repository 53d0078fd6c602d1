"""tracknet"""
