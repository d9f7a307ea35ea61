from django.contrib.admin.apps import AdminConfig


class OperatorConfig(AdminConfig):
    default_site = "console.operator.site.OperatorSite"
