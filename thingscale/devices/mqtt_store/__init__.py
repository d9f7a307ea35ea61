"""What the MQTT broker keeps in PostgreSQL: durable sessions with their subscriptions and queues, and
retained messages. Functions for the writer's transaction (ingest/transaction.py). Each takes all of its kind
that a batch has, and locks sessions in the order of their keys."""
