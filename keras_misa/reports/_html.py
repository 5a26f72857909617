"""HTML that is made of escaped text and of nothing else."""

import html


class Markup(str):
    """What `tag` and `join` have made, not to be escaped again."""

    __slots__ = ()


def tag(name, /, *children, **attributes):
    """An element; strings among its children and attributes are text, whatever stands in them.

    Args:
        name: of the element.
        *children: strings, `Markup`, or lists of them; `None` is nothing.
        **attributes: `class_` is `class`, other underscores are hyphens; `True` is an attribute without a value,
            `None` none at all.
    """
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None
    )
    if name in ("img", "meta"):
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(children)}</{name}>")


def join(children):
    """Elements and texts, one after the other."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(join(child))
        elif child is not None:
            parts.append(html.escape(str(child)))
    return Markup("".join(parts))


def table(result):
    """A `ResultTable` as an element, its notes below it; lines across it part its bodies."""
    bodies = [[]]
    for row in result.rows:
        if row is None:
            bodies.append([])
        else:
            bodies[-1].append(row)
    head = tag("thead", tag("tr", [tag("th", column, scope="col") for column in result.columns]))
    rows = [[tag("tr", tag("th", r[0], scope="row"), [tag("td", c) for c in r[1:]]) for r in body] for body in bodies]
    element = tag("table", head, [tag("tbody", of_body) for of_body in rows], aria_label=result.caption)
    notes = [tag("p", note, class_="quiet") for note in result.notes]
    caption = tag("p", result.caption, class_="caption")
    return join([caption, tag("div", element, class_="scroll", tabindex="0"), *notes])


def commands(lines):
    """Command lines, which break between words where the page is narrow."""
    return [tag("pre", _spaced([tag("span", word) for word in line.split(" ")]), class_="command") for line in lines]


def _spaced(elements):
    return [part for element in elements for part in (" ", element)][1:]
