// Sends messages to an SQS queue as the existing producers do: `plain` JSON, a CloudEvent in
// `structured` mode, or one whose attributes are message attributes (`binary`).
const { SQSClient, GetQueueUrlCommand, SendMessageBatchCommand } = require("@aws-sdk/client-sqs");

async function formsOf({ mode, event, body }) {
  if (mode === "plain") return { text: JSON.stringify(body), headers: {} };
  const { CloudEvent, HTTP } = require("cloudevents");
  const message = HTTP[mode](new CloudEvent(event));
  const text = typeof message.body === "string" ? message.body : JSON.stringify(message.body);
  return { text, headers: message.headers };
}

async function main({ endpoint, region, queue, group, messages }) {
  const client = new SQSClient({
    endpoint,
    region,
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  });
  const { QueueUrl } = await client.send(new GetQueueUrlCommand({ QueueName: queue }));
  const entries = await Promise.all(
    messages.map(async (message, number) => {
      const { text, headers } = await formsOf(message);
      const attributes = Object.entries(headers).map(([name, value]) => [
        name,
        { DataType: "String", StringValue: String(value) },
      ]);
      return {
        Id: String(number),
        MessageBody: text,
        MessageAttributes: Object.fromEntries(attributes),
        ...(group ? { MessageGroupId: group, MessageDeduplicationId: `${group}-${number}` } : {}),
      };
    }),
  );
  const answer = await client.send(new SendMessageBatchCommand({ QueueUrl, Entries: entries }));
  if (answer.Failed?.length) throw new Error(JSON.stringify(answer.Failed));
  return answer.Successful.sort((a, b) => a.Id - b.Id).map((one) => one.MessageId);
}

let order = "";
process.stdin.on("data", (chunk) => (order += chunk));
process.stdin.on("end", async () => {
  const ids = await main(JSON.parse(order));
  process.stdout.write(JSON.stringify(ids));
});
