"""How signatures are checked while testing: shapes by jaxtyping, types by beartype; an int is good enough a float."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
