"""Language models behind one interface: any OpenAI-compatible endpoint, RAE's ML service, or rules that need no network.

`rae_jobctl.llm.factory.open_provider` chooses by configuration. Memory text is data here, never instruction: what a provider
returns has been checked against the text that it was given.
"""
