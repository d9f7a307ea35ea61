"""How forms become HTML: each field with its label, its help and its error beside it."""

from django.forms.renderers import TemplatesSetting


class Renderer(TemplatesSetting):
    form_template_name = "console/_form.html"
    field_template_name = "console/_field.html"
