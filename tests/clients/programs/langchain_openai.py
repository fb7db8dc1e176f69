# /// script
# dependencies = ["langchain-openai==1.7.4"]
# tool.llmos.asks = "ChatOpenAI.invoke: the first example of its documentation"
# ///
import os

from langchain_openai import ChatOpenAI

llm = ChatOpenAI(model=os.environ["MODEL"])
messages = [
    ("system", "You are a helpful assistant that translates English to French. Translate the user sentence."),
    ("human", "I love programming."),
]
ai_msg = llm.invoke(messages)
print(ai_msg.text)
