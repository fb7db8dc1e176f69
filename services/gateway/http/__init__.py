"""HTTP for every dialect: the application, bodies, responses, errors, event streams, and the OpenAPI document."""
