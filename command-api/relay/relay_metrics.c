#include "command-api/relay/relay_metrics.h"

void relay_metrics_register(struct relay_metrics *metrics, struct metrics *m) {
    metrics->lag_bytes = metrics_gauge(m, "daybook_relay_lag_bytes", "",
                                       "Log between what is confirmed and the newest.");
    metrics->lag_seconds = metrics_gauge(m, "daybook_relay_lag_seconds", "",
                                         "Age of the oldest commit that is not in Kafka yet.");
    metrics->in_flight_gauge =
        metrics_gauge(m, "daybook_relay_in_flight", "", "Records published and not acknowledged.");
    metrics->published = metrics_counter(m, "daybook_relay_events_published_total", "",
                                         "Events acknowledged by Kafka.");
    metrics->skipped = metrics_counter(m, "daybook_relay_events_skipped_total", "",
                                       "Events that were in the topic already.");
    metrics->referred = metrics_counter(m, "daybook_relay_payloads_left_out_total", "",
                                        "Records published without their payload: too large.");
    metrics->blocked = metrics_gauge(m, "daybook_relay_blocked", "",
                                     "1 while a record that the topic can't take holds up all.");
    metrics->transactions = metrics_counter(m, "daybook_relay_transactions_total", "",
                                            "Transactions read from the log.");
    metrics->reconnects[END_FEED] =
        metrics_counter(m, "daybook_relay_reconnects_total", "to=\"postgresql\"",
                        "Times that feed and publisher were opened anew, by whose failure.");
    metrics->reconnects[END_PUBLISHER] =
        metrics_counter(m, "daybook_relay_reconnects_total", "to=\"kafka\"",
                        "Times that feed and publisher were opened anew, by whose failure.");
    metrics->batch_size =
        metrics_sizes(m, "daybook_relay_batch_size", "", "Events per transaction.");
    metrics->publish_seconds = metrics_latency(m, "daybook_relay_publish_seconds", "",
                                               "From commit to Kafka's acknowledgement.");
}
