"""What an agent does and holds, step by step: episodes played back, pictures of them, and measures of their memory."""
