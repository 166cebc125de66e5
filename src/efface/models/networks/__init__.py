"""The networks that Efface builds itself."""
