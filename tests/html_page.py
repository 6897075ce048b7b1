"""A page as a reader has it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Tags, headings, texts that are read and the balance of a page."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "path", "use"})

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open, self.headings = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("h1", "h2"):
            self.headings.append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)
        if {"h1", "h2"} & set(self.open):
            self.headings[-1] += data

    @property
    def plain(self):
        return " ".join(" ".join(self.text).split())
