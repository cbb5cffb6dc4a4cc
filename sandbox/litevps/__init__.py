"""LiteVPS as a real HTTP server: the sandbox's stand-in for the vendor, from its public document.

JWTs of a day or `vtk_` tokens, a prepaid balance in JSON numbers, virtual machines by the minute, with exec, jobs and
files. A machine is a directory and a scripted shell: no command of a client is ever run. Time is the business clock.
"""
