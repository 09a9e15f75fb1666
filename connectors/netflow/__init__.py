"""NetFlow v5, v9 and IPFIX: from datagrams to records of type conn@1.

`message` reads headers and sets, `templates` what a data set means, `collector` keeps the state of
exporters (templates, sequence, restarts, sampling, sets that wait for a template), `conn` turns the
records of many datagrams into columns at once, `assemble` puts them into order.

References: RFC 3954 (v9), RFC 7011 (IPFIX), RFC 5103 (biflows), Cisco's description of v5.
"""
