"""What is known of models: prices, windows and abilities, bundled as a snapshot and refreshed from the live list.

Law: the words are in `model` and `price`, the shelf they stand on in `catalog`, where they come from in
`snapshot` and `refresh`. What is not known is None and never an error; nothing here opens a socket.
"""
