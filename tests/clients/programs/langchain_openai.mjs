// /// script
// dependencies = ["@langchain/openai@1.6.0", "@langchain/core@1.4.0"]
// tool.llmos.asks = "ChatOpenAI.invoke and stream: the README's first examples"
// ///
import { HumanMessage } from '@langchain/core/messages';
import { ChatOpenAI } from '@langchain/openai';

const model = new ChatOpenAI({
  apiKey: process.env.OPENAI_API_KEY,
  model: process.env.MODEL,
});
const response = await model.invoke([new HumanMessage('Hello world!')]);
console.log(response.text);

const pieces = [];
for await (const piece of await model.stream([new HumanMessage('Hello world!')])) pieces.push(piece.text);
if (pieces.join('') === '') throw new Error('the stream was empty');
