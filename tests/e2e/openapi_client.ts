// Calls everything through the types that openapi-typescript makes; prints the name of each call that succeeded.
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./schema.js";

declare const process: { argv: [string, string, string, string, string] };
const [, , baseUrl, apiToken, deviceToken] = process.argv;
const api = createClient<paths>({ baseUrl, headers: { "X-APITOKEN": apiToken } });
const device = createClient<paths>({ baseUrl, headers: { "X-DEVICETOKEN": deviceToken } });
const form = { "Content-Type": "application/x-www-form-urlencoded" };

type Answer = { data?: unknown; error?: unknown; response: Response };
const event: components["schemas"]["EventFields"] = { mapped_ch: 3, source: "temp", operator: ">=", threshold: "30" };
const ts1 = { path: { device_id: "ts1" } };
const channel = { path: { number: 3 } };
const first = { path: { number: 1 } };

// In order. A call that is missing, or is none of `operations`, is an error of types.
const calls: { [name in keyof operations]: () => Promise<Answer> } = {
  channel_create: () => api.POST("/v2/channel/{number}", { params: channel }),
  channel_update: () =>
    api.PUT("/v2/channel/{number}", {
      params: channel,
      body: { channel_name: "roof", retention_days: null, streams: [{ key: "temp", unit: "°C" }] },
    }),
  device_create: () => api.POST("/v2/device/{device_id}", { params: ts1, body: { location: "roof" } }),
  device_update: () =>
    api.PUT("/v2/device/{device_id}", { params: ts1, body: { enabled: true, mapped_ch: 3 } }),
  connector_post_v2: () =>
    device.POST("/post_v2/", {
      params: { header: { "X-DEVICEID": "ts1", "X-TAGNAME": "sensor/door" } },
      body: { temp: 21.5, open: [true] },
      headers: { Accept: "application/json" },
    }),
  connector_post_v1: () =>
    device.POST("/post_v1/", {
      params: { header: { "X-DEVICEID": "ts1" } },
      body: { v: "21.5", v2: "48" },
      headers: form,
      parseAs: "text",
    }),
  connector_post: () =>
    device.POST("/post/", {
      params: { header: { "X-DEVICEID": "ts1" } },
      body: { v: "21.5" },
      headers: form,
      parseAs: "text",
    }),
  stream_create: () =>
    api.POST("/v2/stream/{number}", {
      params: { ...channel, header: { "Idempotency-Key": "one" } },
      body: [{ value: 1 }, { value: { temp: 2 }, tag: null }, { value: "text", tag: "roof" }],
    }),
  stream_retrieve: async () => {
    const answer = await api.GET("/v2/stream/{number}", {
      params: { ...channel, header: { "X-ENDTIME": "last", "X-PAGELIMIT": 10, "X-PAGESORT": "desc" } },
    });
    const data = answer.data; // CSV is text
    const tags: (string | null)[] | undefined =
      typeof data === "object" ? data.stream?.map((point) => point.tag) : undefined;
    check(tags?.length === 6 && tags.includes("sensor/door"), "what was sent is there");
    return answer;
  },
  device_list: () => api.GET("/v2/device"),
  device_retrieve: async () => {
    const answer = await api.GET("/v2/device/{device_id}", { params: ts1 });
    const mapped: number | null | undefined = answer.data?.[0]?.mapped_ch;
    check(mapped === 3, "the device is mapped");
    return answer;
  },
  channel_list: () => api.GET("/v2/channel", { params: { header: { "X-WITHTAG": "true" } } }),
  channel_retrieve: () => api.GET("/v2/channel/{number}", { params: channel }),
  event_create: () => api.POST("/v2/event", { body: event }),
  event_update: () => api.PUT("/v2/event/{number}", { params: first, body: { repeat: "crossing" } }),
  event_list: () => api.GET("/v2/event"),
  event_retrieve: async () => {
    const answer = await api.GET("/v2/event/{number}", { params: first });
    const operator: components["schemas"]["Operator"] | undefined = answer.data?.[0]?.operator;
    check(operator === ">=", "the event's operator");
    return answer;
  },
  event_test_create: () => api.POST("/v2/event/{number}/test", { params: first }),
  event_secret_create: () => api.POST("/v2/event/{number}/secret", { params: first }),
  event_secret_retrieve: () => api.GET("/v2/event/{number}/secret", { params: first }),
  incident_list: async () => {
    const answer = await api.GET("/v2/incident", { params: { header: { "X-STATE": "open", "X-PAGELIMIT": 10 } } });
    const value: unknown = answer.data?.[0]?.current;
    check(value === 31.5, "the incident's value");
    return answer;
  },
  incident_retrieve: () => api.GET("/v2/incident/{number}", { params: first }),
  incident_update: () => api.PUT("/v2/incident/{number}", { params: first, body: { acknowledged: true } }),
  delivery_list: () => api.GET("/v2/delivery"),
  contact_create: () => api.POST("/v2/contact", { body: { name: "ntfy", url: "ntfys://topic" } }),
  contact_list: () => api.GET("/v2/contact"),
  contact_retrieve: () => api.GET("/v2/contact/{number}", { params: first }),
  contact_update: () => api.PUT("/v2/contact/{number}", { params: first, body: { enabled: true } }),
  contact_test_create: () => api.POST("/v2/contact/{number}/test", { params: first }),
  contact_destroy: () => api.DELETE("/v2/contact/{number}", { params: first }),
  maintenance_create: () =>
    api.POST("/v2/maintenance", { body: { starts_at: "2099-01-01", ends_at: "2099-01-02", devices: "ts*" } }),
  maintenance_list: () => api.GET("/v2/maintenance"),
  maintenance_destroy: () => api.DELETE("/v2/maintenance/{number}", { params: first }),
  rule_create: () => api.POST("/v2/rule", { body: { pattern: "ts-*", own_channel: true } }),
  rule_list: () => api.GET("/v2/rule"),
  rule_retrieve: async () => {
    const answer = await api.GET("/v2/rule/{number}", { params: first });
    check(answer.data?.[0]?.own_channel === true, "each device its own channel");
    return answer;
  },
  rule_update: () => api.PUT("/v2/rule/{number}", { params: first, body: { mapped_ch: 3, position: 0 } }),
  rule_destroy: () => api.DELETE("/v2/rule/{number}", { params: first }),
  event_destroy: () => api.DELETE("/v2/event/{number}", { params: first }),
  intake_create: () => api.POST("/v2/intake", { body: { name: "Telegraf", format: "influx" } }),
  intake_list: () => api.GET("/v2/intake"),
  intake_retrieve: () => api.GET("/v2/intake/{number}", { params: first }),
  intake_update: () => api.PUT("/v2/intake/{number}", { params: first, body: { rate: 1000 } }),
  intake_key_create: () => api.POST("/v2/intake/{number}/key", { params: first }),
  intake_key_destroy: () => api.DELETE("/v2/intake/{number}/key", { params: first }),
  intake_message_list: () => api.GET("/v2/intake/{number}/message", { params: first }),
  intake_try_create: () =>
    api.POST("/v2/intake/try", { body: { format: "influx", body: "mem,host=server-1 used=21" } }),
  intake_destroy: () => api.DELETE("/v2/intake/{number}", { params: first }),
  user_list: () => api.GET("/v2/user"),
  user_update: () => api.PUT("/v2/user", { body: { organization: "Example" } }),
  publish_create: () =>
    api.POST("/v2/publish/{device_id}", { params: { path: { device_id: "connected" } }, body: { payload: "on" } }),
  session_list: () => api.GET("/v2/session"),
  channel_destroy: () => api.DELETE("/v2/channel/{number}", { params: channel }),
  device_destroy: () => api.DELETE("/v2/device/{device_id}", { params: ts1 }),
};

function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`not so: ${what}`);
}

// What the types refuse; if they took it, the comment itself would be an error
// @ts-expect-error: an operator that there is not
const wrong: typeof event = { operator: "~" };
// @ts-expect-error: a device has to name itself
const nameless = () => device.POST("/post_v2/", { body: 1 });
// @ts-expect-error: a payload is text
const numeric = () => api.POST("/v2/publish/{device_id}", { params: ts1, body: { payload: 1 } });

for (const [name, call] of Object.entries(calls)) {
  const { data, error, response } = await call();
  check(response.ok && data !== undefined, `${name}: ${response.status} ${JSON.stringify(error)}`);
  console.log(name);
}

const missing = await api.GET("/v2/device/{device_id}", { params: { path: { device_id: "none" } } });
const code: string | undefined = missing.error?.error;
check(missing.response.status === 404 && code === "NO_DEVICE", "an error is parsed");
const refused = await createClient<paths>({ baseUrl }).POST("/post_v2/", {
  params: { header: { "X-DEVICEID": "ts1" } },
  body: [{ value: 1 }],
  headers: { Accept: "application/json" },
});
check(typeof refused.error === "object" && refused.error.error === "AUTH_REQUIRED", "JSON where it is asked for");
const bearer = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${apiToken}` } });
check((await bearer.GET("/v2/user")).data?.length === 1, "a bearer token signs in");
