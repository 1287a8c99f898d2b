"""From a request to one paid training: plan, price, what is open already, create once."""
