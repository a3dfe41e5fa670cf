#!/usr/bin/env bash
# shellcheck disable=SC2086 # options
exec java ${KAFKA_HEAP_OPTS:-} -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp '/opt/kafka/libs/*' \
    org.apache.kafka.tools.TopicCommand "$@"
