// /// script
// dependencies = ["@ai-sdk/openai@4.0.118", "ai@7.0.173", "zod@4.6.7"]
// tool.llmos.asks = "generateText with openai(): the README's example"
// ///
import { openai } from '@ai-sdk/openai';
import { generateText } from 'ai';

const { text } = await generateText({
  model: openai(process.env.MODEL),
  prompt: 'Write a vegetarian lasagna recipe for 4 people.',
});
console.log(text);
