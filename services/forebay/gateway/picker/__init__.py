"""The endpoint picker: Envoy asks it where a request goes, by the rules of the Gateway API inference extension."""
