"""What to paste into programs that speak one of the formats, beside the presets of `mapped`.

The console fills in the same words as in presets.
"""

from typing import NamedTuple

from thingscale.intakes.models import Intake
from thingscale.intakes.presets import Paste

CURL_INFLUX = "curl 'URL/write?precision=s' --data-binary 'weather,host=roof temp=21.5,humid=40'"


class Guide(NamedTuple):
    name: str
    title: str
    description: str
    format: Intake.Format
    paste: tuple[Paste, ...]
    sample: str = ""  # a payload to try


_LINE = "cpu,cpu=cpu0,host=server-1 usage_idle=97.5,usage_user=1.2\nmem,host=server-1 used_percent=21.4\n"
GUIDES = {
    guide.name: guide
    for guide in (
        Guide(
            "telegraf-influxdb",
            "Telegraf",
            "All that Telegraf gathers. A host is a device, a measurement with its other tags a tag.",
            Intake.Format.INFLUX,
            (
                Paste(
                    "telegraf.conf",
                    "[[outputs.influxdb_v2]]\n"
                    '  urls = ["URL"]\n'
                    '  token = "any"\n'
                    '  organization = "any"\n'
                    '  bucket = "any"',
                ),
            ),
            _LINE,
        ),
        Guide(
            "influxdb",
            "InfluxDB client",
            "Any program that writes to InfluxDB 1 or 2: its address is the URL, and names of databases,"
            " buckets and tokens don't matter.",
            Intake.Format.INFLUX,
            (Paste("Shell", CURL_INFLUX), Paste("URL of the server", "URL")),
            _LINE,
        ),
        Guide(
            "prometheus",
            "Prometheus",
            "Remote write 1.0 and 2.0, also of Grafana Alloy and VictoriaMetrics' vmagent. An instance is a"
            " device, a metric a tag.",
            Intake.Format.PROMETHEUS,
            (Paste("prometheus.yml", "remote_write:\n  - url: URL/api/v1/write"),),
        ),
        Guide(
            "opentelemetry",
            "OpenTelemetry",
            "Metrics by OTLP over HTTP, as protobuf or JSON, of the Collector and of SDKs.",
            Intake.Format.OTLP,
            (
                Paste(
                    "Configuration of the Collector",
                    "exporters:\n  otlphttp:\n    metrics_endpoint: URL/v1/metrics",
                ),
                Paste("Environment of an SDK", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=URL/v1/metrics"),
            ),
            '{"resourceMetrics": [{"resource": {"attributes": [{"key": "host.name", "value":'
            ' {"stringValue": "server-1"}}]}, "scopeMetrics": [{"metrics": [{"name": "system.memory.usage",'
            ' "gauge": {"dataPoints": [{"asDouble": 4.1}]}}]}]}]}',
        ),
    )
}
