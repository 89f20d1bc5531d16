"""A StatsD server: datagrams -> intake (identical lines counted) -> fold (distinct lines parsed) -> aggregate."""
