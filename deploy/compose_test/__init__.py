"""docker-compose.yml, run as it is and checked: `make compose-test`."""
