"""The red-team suite: exploits that must be caught, their defused twins and honest kernels.

Every exploit is a record in one of the tables of `exploits/`, every honest kernel one in `honest/`.
"""
