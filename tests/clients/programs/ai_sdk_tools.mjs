// /// script
// dependencies = ["ai@7.0.173", "@ai-sdk/openai@4.0.118", "zod@4.6.7"]
// tool.llmos.asks = "tools together with Output.object, the first step calls the tool"
// ///
import { openai } from '@ai-sdk/openai';
import { generateText, Output, stepCountIs, tool } from 'ai';
import { z } from 'zod';

const { output, steps } = await generateText({
  model: openai(process.env.MODEL),
  tools: {
    weather: tool({
      description: 'Get the weather in a location',
      inputSchema: z.object({ location: z.string().max(20) }),
      execute: async ({ location }) => ({ location, temperature: 21 }),
    }),
  },
  output: Output.object({
    schema: z.object({ summary: z.string().max(80), recommendation: z.enum(['umbrella', 'sunglasses']) }),
  }),
  stopWhen: stepCountIs(3),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? 'required' : 'none' }),
  prompt: 'What should I wear in San Francisco today?',
});
if (steps[0].toolResults.length === 0) throw new Error('the tool was not called');
console.log(JSON.stringify(output));
