"""OpenAI's HTTP shapes over dsdq's client: what a request asks for, how it is answered, what an error looks like.

It knows no HTTP server: the gateway answers requests by it, batch workers answer the lines of a file.
"""
