"""What everything of one kind must do, as mixins to be run over each of that kind."""
