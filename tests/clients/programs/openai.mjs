// /// script
// dependencies = ["openai@7.59.0"]
// tool.llmos.asks = "responses.create: the README's first example"
// ///
import OpenAI from 'openai';

const client = new OpenAI({
  apiKey: process.env['OPENAI_API_KEY'], // This is the default and can be omitted
});

const response = await client.responses.create({
  model: process.env.MODEL,
  instructions: 'You are a coding assistant that talks like a pirate',
  input: 'Are semicolons optional in JavaScript?',
});

console.log(response.output_text);
