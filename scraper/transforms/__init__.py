"""What is made of a response, a transform to a module. Importing this package loads none of them."""
