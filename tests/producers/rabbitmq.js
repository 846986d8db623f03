// Publishes to a RabbitMQ queue as the existing producers do: `plain` JSON, a CloudEvent in
// `structured` mode, or one whose attributes are application headers (`binary`); and headers of
// every type that AMQP has (`odd`).
const amqp = require("amqplib");

function propertiesOf({ prefix = "cloudEvents_" }, headers) {
  const renamed = Object.entries(headers)
    .filter(([name]) => name.startsWith("ce-"))
    .map(([name, value]) => [prefix + name.slice("ce-".length), value]);
  return { contentType: headers["content-type"], headers: Object.fromEntries(renamed) };
}

function formOf(message) {
  const { mode, event, body, options = {} } = message;
  if (mode === "plain") return { text: JSON.stringify(body), options };
  const { CloudEvent, HTTP } = require("cloudevents");
  // The SDK has no AMQP binding: its HTTP headers are renamed as that binding has them.
  const written = HTTP[mode](new CloudEvent(event));
  const text = typeof written.body === "string" ? written.body : JSON.stringify(written.body);
  return { text, options: { ...options, ...propertiesOf(message, written.headers) } };
}

const ODD_HEADERS = {
  // No NaN: Erlang has none, so that RabbitMQ closes the connection of whoever sends one.
  half: 1.5,
  huge: { "!": "int64", value: Number.MAX_SAFE_INTEGER },
  small: { "!": "int8", value: -3 },
  yes: true,
  nothing: null,
  late: { "!": "timestamp", value: Number.MAX_SAFE_INTEGER },
  then: { "!": "timestamp", value: 1700000000 },
  price: { "!": "decimal", value: { digits: 1999, places: 2 } },
  bytes: Buffer.from([0xff, 0x00, 0x41]),
  nested: { deep: { deeper: [1, "two", [null, true]] }, when: { "!": "timestamp", value: 0 } },
  list: [1, { a: "b" }],
  "Ünïcode name": "Zoë",
  "": "without a name",
};

async function main({ url, queue, messages }) {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  for (const message of messages) {
    if (message.mode === "odd") {
      const options = { headers: ODD_HEADERS, timestamp: Number.MAX_SAFE_INTEGER };
      channel.sendToQueue(queue, Buffer.from("odd"), options);
    } else {
      const { text, options } = formOf(message);
      channel.sendToQueue(queue, Buffer.from(text), { persistent: true, ...options });
    }
  }
  await channel.waitForConfirms();
  await connection.close();
  return messages.length;
}

let order = "";
process.stdin.on("data", (chunk) => (order += chunk));
process.stdin.on("end", async () => {
  const count = await main(JSON.parse(order));
  process.stdout.write(JSON.stringify(count));
});
