"""Log files into CloudWatch Logs: discover -> identity -> tail -> frame -> batch -> deliver -> cursor."""
