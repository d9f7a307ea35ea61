import os

from django.core.wsgi import get_wsgi_application

from thingscale.processes import secret_key

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
secret_key.require()
application = get_wsgi_application()
